// Command docker2013-shim is the process between the daemon and a container of the
// modern path; in a container it is the init of `run --init`. The daemon starts
// it; nobody else does.
package main

import (
	"os"

	"docker2013/native/reaper"
	"docker2013/native/shim"
)

func main() {
	if reaper.Is(os.Args[0]) {
		reaper.Main()
	}
	shim.Main()
}
