"""A small world of solids with a front and a back, its model, and its judge: where a text-to-3-D run can be marked."""
