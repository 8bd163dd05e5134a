"""The runtimes of an agent: one file each, imported by `nas.predictors.remote.agent.main`."""
