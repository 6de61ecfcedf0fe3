"""What scanners say of a listener with the default settings.

PINGORA_LONG=1 runs testssl.sh too, which takes a minute.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from conversations import wait_until
from free_ports import free_port
from pki import Authority

GROUPS = {"X25519MLKEM768", "x25519", "secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)"}
SUITES = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
}
# of testssl's findings: the certificate is the test's own, and no listener can mend what it is asked of one
OF_CERTIFICATES = ("cert", "DNS_CAA", "OCSP")
# what it says it could not check; that sessions are resumed test_tls_downstream.py shows
NOT_LOOKED_AT = {"engine_problem", "sessionresumption_ticket"}
HARMLESS = {"OK", "INFO", "LOW"}
# It needs an older cryptography than ours, so tools/setup.sh gives it an environment of its own.
SSLYZE = shutil.which("sslyze") or shutil.which(f"{sys.prefix}/sslyze/bin/sslyze")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture(params=["EC", "RSA", "both"])
def listener(request, tmp_path, origin_factory):
    """Run `pingora run` with certificates of these kinds; gives its address."""
    ca = Authority()
    kinds = ["EC", "RSA"] if request.param == "both" else [request.param]
    pairs = [ca.issue("localhost", "127.0.0.1", kind=kind).write(tmp_path, kind) for kind in kinds]
    options = "&".join(f"cert={chain}&key={key}" for chain, key in pairs)
    address = f"127.0.0.1:{free_port()}"
    places = ("--from", f"tls://{address}?{options}", "--to", f"http://{origin_factory(OK).address}")
    command = [sys.executable, "-m", "pingora", "run", *places]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: answers(address) or process.poll() is not None)
        yield address
        process.terminate()
        assert process.wait(20) == 0


def answers(address):
    host, port = address.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.skipif(shutil.which("sslscan") is None, reason="sslscan is not installed")
def test_sslscan_finds_nothing_old_or_weak(listener, tmp_path):
    run("sslscan", f"--xml={tmp_path}/found.xml", listener)
    found = ElementTree.parse(tmp_path / "found.xml").getroot().find("ssltest")
    versions = {(one.get("type"), one.get("version")) for one in found.iter("protocol") if one.get("enabled") == "1"}
    assert versions == {("tls", "1.2"), ("tls", "1.3")}
    suites = {one.get("cipher") for one in found.iter("cipher")}
    assert suites
    assert suites <= SUITES
    assert {one.get("name") for one in found.iter("group")} <= GROUPS
    assert [one.get("supported") for one in found.iter("renegotiation")] == ["0"]
    assert {one.get("vulnerable") for one in found.iter("heartbleed")} == {"0"}


@pytest.mark.skipif(SSLYZE is None, reason="sslyze is not installed")
def test_sslyze_finds_all_that_mozilla_asks_of_an_intermediate_configuration(listener, tmp_path):
    report = tmp_path / "found.json"
    # Exit code 1: who issued the test's certificate is unknown to it.
    command = [SSLYZE, f"--json_out={report}", listener]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300)
    (scanned,) = json.loads(report.read_text())["server_scan_results"]
    assert scanned["scan_status"] == "COMPLETED"
    found = {name: one["result"] for name, one in scanned["scan_result"].items() if one["status"] == "COMPLETED"}
    accepted = {name: one["is_tls_version_supported"] for name, one in found.items() if "cipher_suites" in name}
    assert {name for name, is_accepted in accepted.items() if is_accepted} == {
        "tls_1_2_cipher_suites",
        "tls_1_3_cipher_suites",
    }
    assert len(accepted) == 6, "of SSL 2.0 to TLS 1.3"
    assert not found["tls_compression"]["supports_compression"]
    assert not found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert not found["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert found["robot"]["robot_result"] == "NOT_VULNERABLE_RSA_NOT_SUPPORTED"
    assert found["session_renegotiation"]["client_renegotiations_success_count"] == 0
    assert found["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert found["tls_extended_master_secret"]["supports_ems_extension"]
    mozilla = told.stdout.partition("COMPLIANCE AGAINST")[2]
    assert re.findall(r"^ +\* (\w+):", mozilla, re.MULTILINE) == ["certificate_path_validation"], told.stdout


@pytest.mark.skipif(shutil.which("testssl") is None, reason="testssl.sh is not installed")
@pytest.mark.skipif(not os.environ.get("PINGORA_LONG"), reason="testssl.sh takes a minute: PINGORA_LONG=1")
def test_testssl_finds_no_weakness(listener, tmp_path):
    options = ("--quiet", "--warnings", "off", "--jsonfile", f"{tmp_path}/found.json", "-p", "-S", "-f", "-U")
    # Exit code 1: something that it could not look at, such as GOST.
    subprocess.run(["testssl", *options, listener], capture_output=True, timeout=300)
    found = json.loads((tmp_path / "found.json").read_text())
    by_name = {one["id"]: one for one in found}
    assert by_name["heartbleed"]["severity"] == "OK"
    assert by_name["TLS1_3"]["severity"] == "OK"
    weak = {
        name: one["finding"]
        for name, one in by_name.items()
        if one["severity"] not in HARMLESS and name not in NOT_LOOKED_AT and not name.startswith(OF_CERTIFICATES)
    }
    assert not weak
