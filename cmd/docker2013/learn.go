package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// learnProgram, beside this one, has the course's commands: what it links would
// cost every other command its time to start.
const learnProgram = "docker2013-learn"

// course are the course's commands.
var course = []struct{ use, short string }{
	{"learn", "Learn how containers are made: the course"},
	{"chapter list|play N|test [N...]", "The course's chapters, one by one"},
	{"exercise list|start|check|hint|solution|reset NAME", "The course's exercises"},
	{"cleanup", "Remove all that the course has made"},
}

func (a *app) learnCommand(use, short string) *cobra.Command {
	cmd := newCommand(groupLearn, use, short, nil)
	cmd.DisableFlagParsing = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.learn(cmd.Name(), args) }
	cmd.ValidArgsFunction = completeLearn
	return cmd
}

// learn becomes the course's program.
func (a *app) learn(name string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program := filepath.Join(filepath.Dir(self), learnProgram)
	argv := append([]string{"docker2013", "--host", a.global.host, name}, args...)
	if err := unix.Exec(program, argv, os.Environ()); err != nil {
		return fmt.Errorf("the course is a program of its own, %s: %w: make build", program, err)
	}
	return nil
}

// completeLearn asks the course's program, as a shell would. Where it isn't there,
// it is quiet.
func completeLearn(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	self, err := os.Executable()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	argv := append(append([]string{cobra.ShellCompRequestCmd, cmd.Name()}, args...), prefix)
	out, err := exec.Command(filepath.Join(filepath.Dir(self), learnProgram), argv...).Output()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	// The words, one a line, then a colon and what the shell is to do with them.
	words := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := words[len(words)-1]
	directive, err := strconv.Atoi(strings.TrimPrefix(last, ":"))
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return words[:len(words)-1], cobra.ShellCompDirective(directive)
}
