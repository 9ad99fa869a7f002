"""How the framework does its work; private. Plugins import the author's API (`amc_plugins.plugin` and its neighbours)."""
