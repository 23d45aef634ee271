"""The scenes, in the order in which they are played: each changes what the next finds, and none needs another.

A scene is a function of the stage, which returns what it has seen, on one line, or raises StageError. What the judge
finds meanwhile fails it, too.
"""
