"""A field of any size, block by block: the stages of the work, who does them, where they are kept."""
