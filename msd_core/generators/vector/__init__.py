"""Vector graphics: `shapes` is the generator, `outline` its curves, `coverage` the rasteriser, `draft` a start from a
picture, `svg` the file format."""
