"""The family of every class that nobody declared: blocks and roles are told from module trees and names."""

from tadp.families.family import Family

GENERIC = Family(name="generic")
