package chapters

import "embed"

// course is what we ship: the chapters, and what scripts/symbols found in our source.
//
//go:embed all:[0-9][0-9]-* all:source
var course embed.FS
