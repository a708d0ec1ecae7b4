// Package chapters is the course: it reads chapters, checks them, plays them on a
// running daemon, and judges exercises.
//
// A chapter is a folder NN-name of data; adding one needs no Go:
//
//	chapter.yaml   steps and exercises: what isn't prose, once for all languages
//	en.md, zh.md   the prose, by the same ids
//	files/         what its scripts need; optional. daemon.sh, for a daemon of
//	               their own, all chapters find there
//
// # A step
//
// is a claim in prose, a question to answer before one looks, a script that runs
// for real, the evidence, picked out of what the script wrote by regular
// expressions, and the source that did it. A step is true when its script ended
// as it was said to end, and every piece of evidence is there.
//
// # Where it runs
//
// A chapter's scripts run as bash on the host, one session ([Shell]) for each
// path: a step is a bash of its own in the folder $W, which finds the variables and
// functions that the step before has left. A script that sets a trap on EXIT
// so cleans up when its step ends, and a step that fails leaves a shell to go on with.
//
// # Who cleans up
//
// The [Shell] owns what its scripts make: its folder, the processes that they left
// (known by a mark in their environment), the containers with its label, and images
// named course-*. It removes them when it is closed; when it is opened it removes what
// one before it had left in a crash.
//
// What a script makes on the host beside these, a cgroup or a network device, its own
// traps take away. Named $COURSE-…, it is known to be this daemon's, and cleanup removes
// what a crash has left of it.
package chapters
