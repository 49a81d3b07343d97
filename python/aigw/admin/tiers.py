"""`/tiers` and `/models`, in the form of the configuration file.

In: the YAML object of a tier as JSON. Out: the same object with its defaults. Only the file can write models; answers hide the keys
of their upstreams.
"""

from uuid import uuid4

from aigw.admin import envelope
from aigw.admin.body import Form, typed_fields
from aigw.admin.call import Answer, Call, Methods, found, page_of
from aigw.admin.crud import Crud
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, EntityKind, check_entity
from aigw.entities.model import ModelSpec
from aigw.entities.tier import TierSpec
from aigw.errors import StoreError
from aigw.schema.fields import Model
from aigw.schema.violations import SchemaViolation, check, without_nulls
from aigw.types import JsonDict

TIERS, MODELS = KINDS["tiers"], KINDS["models"]
SPECS: dict[str, type[Model]] = {"tiers": TierSpec, "models": ModelSpec}
"""The model of the object that the file holds for each."""


def collection(kind: EntityKind) -> Methods:
    """GET: name and object of each."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            return Answer(200, page_of(call, reader, kind, {}, _with_name, nested=False))

    return {"GET": get}


def tier(name: str) -> Methods:
    """GET, PUT, DELETE of one tier."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            return Answer(200, found(reader, call.crud, TIERS, name).body["spec"])

    def put(call: Call) -> Answer:
        return call.write(200, lambda session, crud: _put(session, crud, name, call.data))

    def delete(call: Call) -> Answer:
        return call.write(204, lambda w, crud: w.delete(TIERS, found(w, crud, TIERS, name)))

    return {"GET": get, "PUT": put, "DELETE": delete}


def model(name: str) -> Methods:
    """GET of one model."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            return Answer(200, _with_name(found(reader, call.crud, MODELS, name)))

    return {"GET": get}


def tokenizer(name: str) -> Methods:
    """GET of a model's tokenizer.json, as workers count by it."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            copy = found(reader, call.crud, MODELS, name).body.get("tokenizer_file")
        if copy is None:
            raise envelope.Refusal(404, {"message": "Not found: the model's tokenizer is no file"})
        try:
            return Answer(200, call.admin.configuration.tokenizers.text(copy["sha256"]))
        except OSError as error:
            raise StoreError(f"the copy of the tokenizer cannot be read: {error.strerror}") from None

    return {"GET": get}


def check_spec(name: str, data: JsonDict) -> JsonDict:
    """Check the object of a tier or model and fill in its defaults. Raises a Refusal with all findings."""
    given = typed_fields(data, SPECS[name]) if isinstance(data, Form) else data
    try:
        return check(SPECS[name], without_nulls(given)).model_dump(mode="json")
    except SchemaViolation as error:
        raise envelope.schema_violation(error) from None


def _put(session: WriteSession, crud: Crud, name: str, data: JsonDict) -> JsonDict:
    row = crud.find(session, TIERS, name)
    if row is not None:
        session.must_be_of(TIERS.name, row)
    spec = check_spec(TIERS.name, data)
    head = row.body if row else {"id": str(uuid4()), "name": name, "created_at": crud.now}
    entity = without_nulls({**head, "updated_at": crud.now, "spec": spec})
    try:
        body = check_entity(TIERS, entity).model_dump(mode="json")
    except SchemaViolation as error:
        raise envelope.schema_violation(error) from None
    kept: JsonDict = session.put(TIERS, body, row).body["spec"]
    return kept


def _with_name(row: Row) -> JsonDict:
    return {"name": row.body["name"], **row.body["spec"]}
