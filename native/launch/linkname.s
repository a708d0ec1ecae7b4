// This file lets child.go declare functions without bodies.
