"""From decoded films to trained networks, and what those say of films that they have not seen."""
