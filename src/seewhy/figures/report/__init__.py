"""HTML pages of a run: blocks, the page in one file, and the case browser with its script and style sheets."""
