"""Energy meters, one a file; `nas.predictors.meter` is their registry."""
