from heedful.pipeline.lineage.records import Lineage as Lineage
from heedful.pipeline.lineage.tracing import trace as trace
