"""Vector graphics: `shapes` is the generator and `settings` what it is made of; `outline` are the curves of shapes and
`stroke` those around lines, `coverage` the rasteriser, `painting` what lies over what, `pens` strokes as parameters,
`draft` a start from a picture; `drawing` what a document draws, `svg` the file format, `svg_path` its paths."""
