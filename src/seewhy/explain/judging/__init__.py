"""Whether a map deserves belief.

Does it depend on what was learned, does it name what the score hangs on, and is it where the lesion is? Only
`localization` needs an annotation. Every figure stands beside the level of something that knows nothing: random
pairs, random order, noise as smooth as the map, the mask's share of the area.
"""
