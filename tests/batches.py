"""Options of a batch in one row, as the command line has them."""

import dataclasses

from appulse.batch import BatchOptions
from appulse.engine.settings import Settings


def batch_options(**given):
    names = {field.name for field in dataclasses.fields(Settings)} & set(given)
    return BatchOptions(settings=Settings(**{name: given.pop(name) for name in names}), **given)


def changed(options, **settings):
    return dataclasses.replace(options, settings=dataclasses.replace(options.settings, **settings))
