"""Makes bundles: manifest, split, audit, training, calibration, evaluation, export."""
