"""Reads CloudFormation's templates."""
import yaml


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's tags, of which only the values matter here."""


def tagged(loader, _suffix, node):
    kind = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: lambda n: loader.construct_sequence(n, True)}
    return kind.get(type(node), lambda n: loader.construct_mapping(n, True))(node)


Loader.add_multi_constructor("!", tagged)


def read(path):
    return yaml.load(path.read_text(), Loader)
