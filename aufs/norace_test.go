//go:build !race

package aufs_test

// race: the tests run with the race detector.
const race = false
