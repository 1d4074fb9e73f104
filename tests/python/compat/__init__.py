"""The same programs on slowapi and on slidegate, with every expected difference named."""
