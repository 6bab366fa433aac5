"""HAProxy's configuration: who is let in, what is cut off, and which slot a request goes to.

Whatever this file lets HAProxy answer itself has the form of the endpoint's own errors. Only for
bytes that never become a request (no HTTP, or a head that does not end) HAProxy has a text of its
own, 400 or 408, and closes the connection; no `http-error` or `errorfile` changes it, and the one
that is empty would leave its client without any answer.
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from bento.contract import MAX_BODY, TOO_LARGE
from bento.slots import SLOTS, Serving, Slot

KEY_MAP = "keys.map"
CLIENT_HEADER = "x-user-id"
MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 100
# For the head, and for as much of the body as can be sent again.
REQUEST_SECONDS = 5
# Of one address, so that it cannot take all of the gateway's 2000.
CONNECTIONS = 1000

TEMPLATE = """\
# Rendered by bento.haproxy from state.json; do not edit.
global
    # A successor takes the open ports over, so that none is closed in between.
    stats socket {admin} mode 600 level admin expose-fd listeners
    maxconn 2000
    nbthread 1
    hard-stop-after 30s
    tune.bufsize 65536  # the largest request that can be sent again to another server
    tune.http.maxhdr 4000  # what is beyond MAX_HEADERS is refused below, in our own words

defaults
    mode http
    # Also how long a retry waits where one slot alone takes traffic.
    timeout connect 200ms
    timeout client 10s  # of silence, in a TLS handshake too
    timeout server 10s
    timeout queue 2s
    timeout check 2s
    timeout http-request {seconds}s
    timeout http-keep-alive 60s
    option redispatch 1
    # A gateway that is replaced tells its clients with an answer, not by closing on a request.
    option idle-close-on-response
    retries 4
    retry-on conn-failure empty-response 503
    default-server inter 500ms fastinter 200ms downinter 300ms fall 2 rise 1
{errors}

frontend gateway
    bind {bind}
    option disable-h2-upgrade
    tcp-request connection track-sc1 src table addresses
    tcp-request connection reject if {{ sc1_conn_cur gt {connections} }}
    stick-table type string len 64 size 100k expire 1m store gpc0_rate(1s)

    acl open path /healthz /livez /readyz
    acl pinned req.fhdr(x-slot) -m found
    acl keyed var(txn.keys) -m str on
    acl granted var(txn.grant) -m found
    acl own var(txn.client) -m str installation
    {large_head} if {{ req.fhdr_cnt gt {max_headers} }} || {{ req.hdrs,length gt {max_head} }}
    # Who asks: a key where keys are on, and an address where they are not or the key is none.
    http-request set-var(txn.keys) str(keys),map_str({key_map},off)
    http-request set-var(txn.grant) http_auth_bearer,sha2(256),hex,lower,map_str({key_map}) if keyed
    http-request set-var(txn.expires) var(txn.grant),field(2,:) if granted
    http-request unset-var(txn.grant) if granted {{ date,neg,add(txn.expires) -m int le 0 }}
    http-request set-var-fmt(txn.client) %[src]
    http-request set-var(txn.client) var(txn.grant),field(3,:) if granted
    http-request del-header authorization
    http-request del-header upgrade
{limit}
    {no_key} if keyed !granted !open
    {no_key} if keyed !granted pinned
    acl admin var(txn.grant),field(1,:) -m str admin
    {no_admin} if keyed !admin pinned
    {no_admin} if keyed !admin !open !{{ path /predict /version }}
    {too_large} if {{ req.hdr_val(content-length) gt {max_body} }}
    # Only a request that is here as a whole can be sent again to another server.
    http-request wait-for-body time {seconds}s
{plain}
    # Only /predict/ and its like lead elsewhere, to wherever the host header says.
    {no_detour} if {{ status 300:399 }}
    use_backend blue if {{ req.hdr(x-slot) -m str blue }}
    use_backend green if {{ req.hdr(x-slot) -m str green }}
    default_backend serving

backend addresses
    stick-table type ipv6 size 100k expire 1m store conn_cur

backend serving
    # A client that names itself stays with its slot; all others are spread by the weights.
    balance hdr({client})
    hash-type consistent
    option httpchk
    http-check send meth GET uri /readyz
    http-check expect status 200
    # The first refused connection takes a server out, so that the retry goes to its backup.
    default-server check observe layer4 error-limit 1 on-error mark-down
{servers}
{backups}

backend blue
    server blue {host}:{blue} track serving/blue

backend green
    server green {host}:{green} track serving/green
"""

NO_ANSWER = "the model gave no answer: try again"
# What HAProxy says by itself, and in place of a slot's answer that is not JSON.
ERRORS = {
    400: "this is no request that can be understood",
    403: "this is not allowed",
    405: "the method is not taken here",
    408: f"the request did not come within {REQUEST_SECONDS} s",
    413: TOO_LARGE,
    500: "the request failed in the gateway",
    501: "this is not implemented",
    502: NO_ANSWER,
    503: "no model is serving: try again in a second",
    504: NO_ANSWER,
}
NOTHING_HERE = "there is nothing here"
PLAIN = {
    400: ERRORS[400],
    404: NOTHING_HERE,
    405: ERRORS[405],
    415: "the content type is not taken here",
    500: "the request failed in the server",
}


def render(serving: Serving, weights: Mapping[Slot, int], proven: Collection[Slot]) -> str:
    """The configuration for these weights.

    Args:
        proven: slots that may stand in for another.
    """
    servers, backups = [], []
    for slot in SLOTS:
        address = f"{serving.host}:{serving.port(slot)}"
        servers.append(f"    server {slot} {address} weight {weights[slot]}")
        allowed = "" if slot in proven else " disabled"
        # A weight of 0 is no failover: each slot stands in once more, as a backup.
        backups.append(
            f"    server {slot}-backup {address} no-check track serving/{slot} backup{allowed}"
        )
    return TEMPLATE.format(
        admin=_quoted(serving.admin_socket.resolve()),
        bind=_bind(serving),
        client=CLIENT_HEADER,
        host=serving.host,
        blue=serving.blue_port,
        green=serving.green_port,
        servers="\n".join(servers),
        backups="\n".join(backups),
        seconds=REQUEST_SECONDS,
        connections=CONNECTIONS,
        max_headers=MAX_HEADERS,
        max_head=MAX_HEADER_BYTES,
        max_body=MAX_BODY,
        key_map=KEY_MAP,
        errors="\n".join(_error(status, message) for status, message in ERRORS.items()),
        plain="\n".join(_plain(status, message) for status, message in PLAIN.items()),
        no_detour=f"http-response return status 404 {_json(NOTHING_HERE)}",
        limit=_limit(serving.rate_limit),
        large_head=_refuse(
            431, f"the head has over {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes"
        ),
        no_key=_refuse(
            401,
            "a key that is known and not expired has to be sent as `authorization: Bearer KEY`",
            "www-authenticate 'Bearer realm=\"evergreen\"'",
        ),
        no_admin=_refuse(
            403,
            "this takes a key with the scope admin",
            'www-authenticate \'Bearer realm="evergreen", error="insufficient_scope"\'',
        ),
        too_large=_refuse(413, TOO_LARGE),
    )


def _bind(serving: Serving) -> str:
    host = f"[{serving.bind}]" if ":" in serving.bind else serving.bind
    if serving.certificate is None:
        return f"{host}:{serving.gateway_port}"
    pem = _quoted(serving.certificate)
    return f"{host}:{serving.gateway_port} ssl crt {pem} ssl-min-ver TLSv1.2 alpn http/1.1"


def _limit(rate: int) -> str:
    """What is beyond the limit is refused; what is refused does not count."""
    if not rate:
        return "    # no rate limit"
    refusal = _refuse(429, f"more than {rate} requests in a second: wait", "retry-after 1")
    return (
        "    http-request track-sc0 var(txn.client) unless own\n"
        f"    {refusal} if {{ sc0_gpc0_rate ge {rate} }}\n"
        "    http-request sc-inc-gpc0(0) unless own"
    )


def _refuse(status: int, message: str, header: str = "") -> str:
    return f"http-request return status {status} {_json(message)}{header and f' hdr {header}'}"


def _error(status: int, message: str) -> str:
    again = " hdr retry-after 1" if status == 503 else ""
    return f"    http-error status {status} {_json(message)}{again}"


def _plain(status: int, message: str) -> str:
    json_already = "{ res.hdr(content-type) -m beg -i application/json }"
    is_it = f"{{ status {status} }} !{json_already}"
    return f"    http-response return status {status} {_json(message)} if {is_it}"


def _json(message: str) -> str:
    return f"content-type application/json string '{json.dumps({'error': message, 'path': '$'})}'"


def _quoted(path: Path) -> str:
    escaped = re.sub(r'(["\\$])', r"\\\1", str(path))
    return f'"{escaped}"'
