"""An object in space, seen from all sides: `volume` is the generator; the other files are what it is made of."""
