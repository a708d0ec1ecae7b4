// Command docker2013-shim is the process between the daemon and a container of the
// modern path. The daemon starts it; nobody else does.
package main

import "docker2013/native/shim"

func main() { shim.Main() }
