"""The settings model and one TOML file for each environment.

Read once and late, by :func:`mdp.config.settings.load_settings`. Not here: any use of a setting.
"""
