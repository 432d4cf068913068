"""Parts of `seewhy evaluate`: options, features, recorded subjects, distances, site probes and tables."""
