// Command docker2013-aufs is the process of one mount of AUFS in user space. The
// daemon starts it; by hand it is `docker2013-aufs DIR br:RW=rw:LAYER=ro:`.
package main

import "docker2013/aufs/fusefs"

func main() { fusefs.Main() }
