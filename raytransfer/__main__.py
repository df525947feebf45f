"""``python -m raytransfer``, where the environment's commands are not on the path."""

from raytransfer.cli import main

main()
