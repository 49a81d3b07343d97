"""`aigw demo FILE` of a file of the user's: it reads the files that the original reads, and its welcome holds for that file."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.certificates import certificate
from tests.support.processes import start_demo

MODEL = """\
_format_version: "3.0"
models:
  mine:
    upstreams:
      - {url: http://127.0.0.1:9100/v1, model: small-chat, api_key: "${file:secrets/upstream}"}
  other:
    upstreams:
      - {url: "https://127.0.0.1:9", tls_ca: ca.pem}
tiers:
  all: {limits: [{requests: 1000, per: day}]}
consumers:
  - {username: me, tier: all, keyauth_credentials: [{key: "${file:secrets/mine}"}]}
"""


def test_the_copy_reads_the_files_of_the_original(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "secrets").mkdir(parents=True)
    (mine / "secrets/upstream").write_text("sk-upstream-0123456789\n")
    (mine / "secrets/mine").write_text("a-key-of-mine-0123456789\n")
    (mine / "ca.pem").write_bytes(certificate(tmp_path).chain.read_bytes())
    (mine / "gateway.yaml").write_text(MODEL)
    demo = start_demo(tmp_path, "mine/gateway.yaml")
    try:
        said = "".join(demo.process.lines)
        assert said.count("  curl -s") == 1 and '"model": "mine"' in said and "Bearer $KEY" in said
        assert "summarize" not in said and "small-chat" not in said and "Keys" not in said
        pasted = said.partition("Try it:\n\n")[2].partition("\n\n")[0].replace("curl -s", "curl -s -f")
        assert "keys create --consumer me --admin 127.0.0.1:" in pasted
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "no_proxy": "*"}
        end = subprocess.run(pasted, shell=True, env=env, capture_output=True, text=True, timeout=30, check=True)
        assert json.loads(end.stdout)["object"] == "chat.completion"
    finally:
        demo.process.end()
    assert (mine / "gateway.yaml").read_text() == MODEL
