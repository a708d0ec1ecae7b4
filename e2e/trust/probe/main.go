// Command probe makes the tries of package trust in the container that it runs in.
// Each is a process of its own; a line a try: its name, a tab, the answer.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"docker2013/e2e/trust"
)

func main() {
	if len(os.Args) > 1 {
		one(os.Args[1])
		return
	}
	inherited := "INHERITED=" + trust.Inherited()
	for _, s := range trust.Table {
		for _, p := range s.Probes {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			cmd := exec.CommandContext(ctx, os.Args[0], p.Name)
			cmd.Stdout, cmd.Env = os.Stdout, append(os.Environ(), inherited)
			if err := cmd.Run(); err != nil {
				fmt.Printf("%s\tdied: %v\n", p.Name, err)
			}
			cancel()
		}
	}
}

func one(name string) {
	if name == "hold-exe" {
		fmt.Println(trust.HoldExe())
		return
	}
	if p, ok := trust.Find(name); ok {
		fmt.Printf("%s\t%s\n", name, trust.Answer(p.Do()))
	}
}
