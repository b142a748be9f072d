"""What the settings accept, and the words of every refusal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.settings import (
    ENVIRONMENT,
    Deliver,
    Infer,
    Listener,
    Node,
    Peer,
    Route,
    Settings,
    SettingsFileError,
    find_file,
)

Write = Callable[[str], Path]

PEER = '[[peer]]\nname = "pacs"\nae_title = "PACS"\nhost = "10.1.2.3"\nport = 104\n'
ROUTE = '[[route]]\nname = "chest"\nbundle = "chest-findings"\ndeliver_to = ["pacs"]\n'


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "overread.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path) -> list[str]:
    """The lines of a refusal, without the file's name that each begins with."""
    with pytest.raises(SettingsFileError) as refused:
        Settings.load(path)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def peer(**values: Any) -> Peer:
    return Peer.model_validate({"name": "pacs", "ae_title": "PACS", "host": "10.1.2.3", "port": 104} | values)


def route(**values: Any) -> Route:
    return Route.model_validate({"name": "chest", "bundle": "b", "deliver_to": ["pacs"]} | values)


def test_an_empty_file_gives_the_defaults(write: Write, tmp_path: Path) -> None:
    settings = Settings.load(write(""))
    assert settings.listener == Listener()
    assert settings.node.ae_title == "OVERREAD"
    assert settings.node.data_dir == tmp_path / "overread-data"


def test_a_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "overread.toml"
    path.write_text('[node]\nae_title = "A"\n', encoding="utf-8-sig")
    assert Settings.load(path).node.ae_title == "A"


def test_folders_start_at_the_file_and_at_home(write: Write, tmp_path: Path) -> None:
    text = '[node]\ndata_dir = "~/data"\nbundle_dirs = ["models", "/srv/models"]\n'
    node = Settings.load(write(text)).node
    assert node.data_dir == Path.home() / "data"
    assert node.bundle_dirs == [tmp_path / "models", Path("/srv/models")]


def test_where_there_is_tls_peers_use_it_unless_they_say_not(write: Write, tmp_path: Path) -> None:
    plain = PEER.replace("pacs", "old") + 'tls = false\nmay = ["receive"]\n'
    settings = Settings.load(write('[tls]\nkey = "/etc/tls/node.key"\n' + PEER + plain))
    assert settings.tls
    assert (settings.tls.port, settings.tls.plain) == (2762, False)
    assert settings.tls.certificate == tmp_path / "tls/node.crt"
    assert settings.tls.key == Path("/etc/tls/node.key")
    assert [settings.uses_tls(peer) for peer in settings.peer] == [True, False]
    assert not any(Settings.load(write(PEER)).uses_tls(peer) for peer in settings.peer)


def test_a_fingerprint_is_read_as_openssl_prints_it(write: Write) -> None:
    pairs = ":".join(["AB"] * 32)
    for text in (pairs, f"sha256 Fingerprint={pairs}", f"SHA256:{'ab' * 32}"):
        settings = Settings.load(write("[tls]\n" + PEER + f'fingerprint = "{text}"\n'))
        assert settings.peer[0].fingerprint == "ab" * 32


def test_settings_are_frozen(write: Write) -> None:
    settings = Settings.load(write(""))
    with pytest.raises(ValidationError):
        settings.node.ae_title = "OTHER"  # type: ignore[misc]


# --- what a refusal says -------------------------------------------------------------------------


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsFileError, match=r"no such file \(make one with `overread init`\)"):
        Settings.load(tmp_path / "overread.toml")


def test_a_folder_in_place_of_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsFileError, match="cannot be read"):
        Settings.load(tmp_path)


def test_what_is_not_toml_says_where(write: Write) -> None:
    (line,) = refusal(write("[node\n"))
    assert line.startswith("not TOML: ")
    assert "line 1" in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[node]\nae_titel = 'X'", "node.ae_titel: no such key (have: ae_title, bundle_dirs, data_dir, organisation)"),
        (
            "[lisener]",
            "lisener: no such key (have: alarm, audit, canary, database, deliver, infer, listener, log, metrics, "
            "node, peer, ray, retention, route, settle, spool, tls, web)",
        ),
        (
            PEER + "settle = { quiet = 3 }",
            "peer[0].settle.quiet: no such key (have: expected_seconds, quiet_seconds, released_quiet_seconds)",
        ),
        (PEER + ROUTE + "gate = { least = 1 }", "route[0].gate.least: no such key (have: at_least)"),
        (
            "[[peer]]\nname = 'x'\nmay = ['send']\nnetworks = ['::1']",
            "peer[0]: ae_title is missing (or url, where results go by STOW-RS)",
        ),
        ("[peer]\nname = 'x'", "peer: write [[peer]] with two brackets, once for each peer"),
        ("[listener]\nport = 0", "listener.port = 0: Input should be greater than or equal to 1"),
        ("[log]\nlevel = 'LOUD'", "log.level = 'LOUD': Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        (
            "[listener]\nbind = 'localhost'",
            'listener.bind = \'localhost\': an address of this machine: "127.0.0.1" for itself only, "0.0.0.0" for all',
        ),
        (PEER + "tls = true", "peer[0] (pacs): tls = true needs the section [tls]"),
        (PEER + f"fingerprint = '{64 * 'a'}'", "peer[0] (pacs): fingerprint needs the section [tls]"),
        (
            "[tls]\n" + PEER + "tls = false",
            "peer[0] (pacs): tls = false, but nobody may send in plain (tls.plain = false)",
        ),
        (
            "[tls]\nplain = true\nport = 11112",
            "tls.port = 11112 is listener.port too: TLS and plain need a port each",
        ),
        (
            "[tls]\n" + PEER + "fingerprint = 'ab:cd'",
            "peer[0].fingerprint = 'ab:cd': a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits, with "
            "or without colons",
        ),
        (
            "[listener]\nfsync = 'none'",
            'listener: fsync = "none" answers success before the bytes are safe: add accept_loss = true',
        ),
        (
            PEER + ROUTE + "when = { Modality = 3 }",
            "route[0].when.Modality = 3: Input should be a valid list",
        ),
    ],
)
def test_a_refusal_names_key_value_and_what_is_allowed(write: Write, text: str, line: str) -> None:
    assert line in refusal(write(text))


def test_all_problems_are_told_at_once(write: Write) -> None:
    assert len(refusal(write("[listener]\nport = 0\nbind = 'x'\n[log]\nlevel = 'x'\n"))) == 3


def test_a_refusal_about_several_keys_has_one_line_for_each_problem(write: Write) -> None:
    text = PEER + PEER + ROUTE.replace('"pacs"', '"archive"') + 'from_peers = ["ct"]\n'
    assert refusal(write(text)) == [
        "peer: two of them are named pacs",
        "route[0].deliver_to = ['archive']: no such peer that may \"receive\" (have: pacs)",
        'route[0].from_peers = [\'ct\']: no such peer that may "send" or "query" (have: pacs)',
    ]


# --- the environment -----------------------------------------------------------------------------


def test_the_environment_overrides_single_values(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_LISTENER__PORT", "104")
    monkeypatch.setenv("overread_node__ae_title", "WARD7")
    settings = Settings.load(write('[listener]\nport = 4242\nbind = "0.0.0.0"\n[node]\norganisation = "H"\n'))
    assert (settings.listener.port, settings.listener.bind) == (104, "0.0.0.0")
    assert (settings.node.ae_title, settings.node.organisation) == ("WARD7", "H")


def test_a_wrong_value_of_the_environment_names_the_variable(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_LISTENER__PORT", "many")
    with pytest.raises(SettingsFileError) as refused:
        Settings.load(write(""))
    assert str(refused.value).startswith(
        "$OVERREAD_LISTENER__PORT: listener.port = 'many': Input should be a valid integer"
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "OVERREAD_LISTENER__PROT",
            "$OVERREAD_LISTENER__PROT: no such key (have: accept_loss, association_limit_mb, bind",
        ),
        (
            "OVERREAD_LISENER__PORT",
            "$OVERREAD_LISENER__PORT: no such section (have: alarm, audit, canary, database, deliver, infer",
        ),
        ("OVERREAD_PEER__0__HOST", "$OVERREAD_PEER__0__HOST: [[peer]] is set in the file only"),
    ],
)
def test_a_variable_that_no_setting_answers_to_is_an_error(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsFileError) as refused:
        Settings.load(write(""))
    assert str(refused.value).startswith(line)


def test_a_section_given_as_text_that_is_not_json_is_an_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_LISTENER", "port=104")
    with pytest.raises(SettingsFileError, match="listener"):
        Settings.load(write(""))


def test_variables_that_are_no_settings_are_left_alone(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_CONFIG", "/elsewhere.toml")
    monkeypatch.setenv("OVERREAD_TEST_DATA", "/data")
    assert Settings.load(write("")).listener == Listener()


# --- values --------------------------------------------------------------------------------------


def test_an_ae_title_loses_its_padding() -> None:
    assert Node(ae_title="  OVER READ ").ae_title == "OVER READ"


@pytest.mark.parametrize("title", ["", "   ", "SEVENTEEN LETTERS", "A\\B", "TITLE\n1", "RÖNTGEN"])
def test_what_is_no_ae_title_is_refused(title: str) -> None:
    with pytest.raises(ValidationError, match="1 to 16 printable ASCII characters without backslash"):
        Node(ae_title=title)


@pytest.mark.parametrize("name", ["", "PACS", "-x", "a b", "x" * 65, "../x"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="a name is 1 to 64 of a-z"):
        peer(name=name)


@pytest.mark.parametrize("text", ["x" * 65, "A\\B", "two\nlines"])
def test_an_organisation_must_fit_an_lo(text: str) -> None:
    with pytest.raises(ValidationError, match="at most 64 printable characters"):
        Node(organisation=text)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_times_have_an_end(value: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Deliver(give_up_hours=value)


def test_loss_must_be_accepted_by_name() -> None:
    assert Listener(fsync="none", accept_loss=True).fsync == "none"
    with pytest.raises(ValidationError, match="accept_loss = true"):
        Listener(fsync="none")


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_not_everybody_is_believed_whom_he_brings(everybody: str) -> None:
    assert Listener(proxy_from=["10.0.0.0/8"]).proxy_from == ["10.0.0.0/8"]
    with pytest.raises(ValidationError, match="whoever sends could say that he is any other"):
        Listener(proxy_from=["10.1.2.3", everybody])


def test_a_node_that_may_lose_images_commits_to_none() -> None:
    assert not Listener().commit
    with pytest.raises(ValidationError, match=r'commit = true speaks of .* needs fsync = "instance"'):
        Listener(fsync="none", accept_loss=True, commit=True)


def test_a_lease_outlasts_the_deadline() -> None:
    with pytest.raises(ValidationError, match="lease_seconds = 300 must be more than deadline_seconds = 300"):
        Infer(lease_seconds=300, deadline_seconds=300)


def test_a_retry_cap_below_the_base_is_refused() -> None:
    with pytest.raises(ValidationError, match="retry_cap_seconds = 1 must not be less than retry_base_seconds = 5"):
        Deliver(retry_cap_seconds=1)


@pytest.mark.parametrize("device", ["auto", "cpu", "gpu:0", "gpu:11"])
def test_a_device_is_auto_cpu_or_a_numbered_gpu(device: str) -> None:
    assert Infer(device=device).device == [device]


def test_several_devices_get_a_process_each() -> None:
    assert Infer(device=["gpu:0", "gpu:1"]).device == ["gpu:0", "gpu:1"]
    with pytest.raises(ValidationError, match="the same twice"):
        Infer(device=["gpu:0", "gpu:0"])


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "gpu:0 ", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(ValidationError, match="device"):
        Infer(device=device)


# --- peers ---------------------------------------------------------------------------------------


def test_a_peer_sends_from_its_host_when_no_network_is_named() -> None:
    assert peer().admits("10.1.2.3")
    assert peer().admits("::ffff:10.1.2.3")
    assert not peer().admits("10.1.2.4")


def test_networks_replace_the_host() -> None:
    there = peer(networks=["10.1.7.0/24", "fd00::/8"])
    assert there.admits("10.1.7.200")
    assert there.admits("fd12::1")
    assert not there.admits("10.1.2.3")


def test_a_network_is_an_address_or_a_range() -> None:
    assert peer(networks=["10.1.2.3"]).networks == ["10.1.2.3/32"]
    with pytest.raises(ValidationError, match=r'an address or a range such as "10\.1\.2\.3"'):
        peer(networks=["pacs.hospital"])


def test_a_peer_that_receives_needs_host_and_port() -> None:
    with pytest.raises(ValidationError, match="needs host and port"):
        peer(host="", networks=["10.1.2.3"])
    with pytest.raises(ValidationError, match="needs host and port"):
        peer(port=None)
    assert peer(host="", port=None, networks=["10.1.2.3"], may=["send"]).may == ["send"]


def test_a_peer_that_is_asked_for_studies_needs_a_place() -> None:
    assert peer(may=["query"], host="pacs.hospital").may == ["query"]
    assert Peer.model_validate({"name": "web", "url": "http://a/dicom-web", "may": ["receive", "query"]}).may
    for place in ({"host": ""}, {"port": None}):
        with pytest.raises(ValidationError, match='a peer that may "query" needs host and port, or url'):
            peer(may=["query", "send"], networks=["10.1.2.3"], **place)


def test_a_peer_that_sends_says_from_where() -> None:
    with pytest.raises(ValidationError, match="a name does not say where it sends from"):
        peer(host="pacs.hospital")
    assert not peer(host="pacs.hospital", may=["receive"]).admits("10.1.2.3")
    assert peer(host="pacs.hospital", networks=["10.1.2.3"]).admits("10.1.2.3")


def test_a_peers_own_settle_rule_keeps_what_it_leaves_out(write: Write) -> None:
    text = "[settle]\nquiet_seconds = 60\nreleased_quiet_seconds = 9\n" + PEER + "settle = { quiet_seconds = 120 }\n"
    settings = Settings.load(write(text))
    own = settings.settle_for("pacs")
    assert (own.quiet_seconds, own.released_quiet_seconds) == (120, 9)
    assert settings.settle_for("unknown") == settings.settle


def test_a_peer_is_found_by_name(write: Write) -> None:
    settings = Settings.load(write(PEER))
    found = settings.peer_named("pacs")
    assert found is not None
    assert found.ae_title == "PACS"
    assert settings.peer_named("archive") is None


# --- routes --------------------------------------------------------------------------------------


def test_a_condition_is_a_text_or_a_list() -> None:
    assert route(when={"Modality": "CR"}).when == {"Modality": ["CR"]}
    with pytest.raises(ValidationError, match="at least 1 item"):
        route(when={"Modality": []})


def test_a_live_route_delivers_somewhere() -> None:
    with pytest.raises(ValidationError, match="a live route needs deliver_to"):
        route(deliver_to=[])
    assert route(deliver_to=[], mode="shadow").mode == "shadow"


def test_a_route_makes_some_result_once() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        route(results=[])
    with pytest.raises(ValidationError, match=r'results = \["sc"\] with sc = "never" makes nothing of a study'):
        route(results=["sc"], sc="never")
    with pytest.raises(ValidationError, match="the same twice"):
        route(results=["sr", "sr"])
    with pytest.raises(ValidationError, match="the same twice"):
        route(deliver_to=["pacs", "pacs"])


@pytest.mark.parametrize(
    ("results", "sc"),
    [(["kos"], "always"), (["gsps", "kos"], "always"), (["sc", "gsps"], "flagged"), (["sc", "kos"], "never")],
)
def test_a_route_that_would_be_silent_when_nothing_is_flagged_is_refused(results: list[str], sc: str) -> None:
    with pytest.raises(ValidationError, match='add "sr", "pdf", or "sc" with sc = "always"'):
        route(results=results, sc=sc)


@pytest.mark.parametrize(
    ("results", "sc"),
    [
        (["sr"], "never"),
        (["pdf"], "never"),
        (["sc", "gsps"], "always"),
        (["pdf", "kos", "gsps", "sr", "sc"], "flagged"),
    ],
)
def test_a_route_that_always_says_something_is_taken(results: list[str], sc: str) -> None:
    assert route(results=results, sc=sc).results == results


@pytest.mark.parametrize("at_least", [-0.1, 1.1])
def test_a_gate_is_a_probability(at_least: float) -> None:
    with pytest.raises(ValidationError, match="at_least"):
        route(gate={"at_least": at_least})


def test_results_go_to_peers_that_may_receive_only(write: Write) -> None:
    ct = '[[peer]]\nname = "ct"\nae_title = "CT"\nnetworks = ["10.1.2.9"]\nmay = ["send"]\n'
    assert refusal(write(PEER + ct + ROUTE.replace('"pacs"', '"ct"'))) == [
        "route[0].deliver_to = ['ct']: no such peer that may \"receive\" (have: pacs)"
    ]


WEB = '[[peer]]\nname = "web"\nurl = "https://pacs.hospital/dicom-web/"\n'


def test_a_peer_with_a_url_only_receives_and_needs_nothing_of_dicom(write: Write, tmp_path: Path) -> None:
    text = WEB + 'user = "me"\npassword_file = "secret"\nauthorities = "ca.crt"\n'
    (web,) = Settings.load(write(text)).peer
    assert (web.url, web.may, web.ae_title) == ("https://pacs.hospital/dicom-web", ["receive"], "")
    assert (web.password_file, web.authorities) == (tmp_path / "secret", tmp_path / "ca.crt")
    assert Settings.load(write(WEB)).uses_tls(web)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WEB + 'host = "10.1.2.3"\nport = 104\n', "peer[0]: host, port: not for a peer with url"),
        (WEB + 'may = ["send"]\n', 'peer[0]: a peer with url may "receive" and "query", and not "send"'),
        (
            WEB + 'api = "orthanc"\nmay = ["query", "receive"]\n',
            'peer[0]: with api = "orthanc" a peer may only "query": results go by STOW-RS, to a DICOMweb service',
        ),
        (PEER + 'api = "orthanc"\n', "peer[0]: api: only for a peer with url"),
        (
            '[[peer]]\nname = "a"\nae_title = "A"\nmay = ["query"]\n',
            'peer[0]: a peer that may "query" needs host and port, or url',
        ),
        (WEB + 'user = "me"\n', "peer[0]: user and password_file belong together"),
        (
            WEB + 'user = "me"\npassword_file = "a"\ntoken_file = "b"\n',
            "peer[0]: either user with password_file, or token_file",
        ),
        (WEB.replace("https", "http") + 'authorities = "a"\n', "peer[0]: authorities: its url is not https"),
        (PEER + 'token_file = "b"\n', "peer[0]: token_file: only for a peer with url"),
    ],
)
def test_a_peer_is_reached_in_one_way(write: Write, text: str, words: str) -> None:
    assert refusal(write(text)) == [words]


def test_a_peer_with_a_url_may_be_asked_for_studies(write: Write) -> None:
    assert Settings.load(write(WEB + 'may = ["query"]\n')).peer[0].may == ["query"]
    assert Settings.load(write(WEB + 'may = ["receive", "query"]\n')).peer[0].api == "dicomweb"
    assert Settings.load(write(WEB + 'api = "orthanc"\n')).peer[0].may == ["query"]


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "https://", "https://a:99999/", "https://a/b?c", "https://a/b#c", "a/dicom-web", "https://a b"]
)
def test_a_url_is_the_root_of_a_service(url: str) -> None:
    with pytest.raises(ValidationError, match="a url is the root of a DICOMweb service"):
        Peer.model_validate({"name": "web", "url": url})


def test_the_scheme_of_a_url_is_written_small() -> None:
    web = Peer.model_validate({"name": "web", "url": "HTTPS://[::1]:8042/dicom-web/"})
    assert web.url == "https://[::1]:8042/dicom-web"
    assert Settings().uses_tls(web)


def test_a_url_holds_no_password_and_no_error_repeats_it(write: Write) -> None:
    file = write(WEB.replace("pacs.", "me:canary@pacs."))
    (said,) = refusal(file)
    assert said.startswith("peer[0].url = 'https://...@pacs.hospital/dicom-web/': a url holds no user and no password")


def test_a_destination_that_wants_nothing_of_a_route_is_an_error(write: Write) -> None:
    wants = PEER + 'results = ["sr"]\n'
    assert refusal(write(wants + ROUTE + 'results = ["sc"]\n')) == [
        "route[0].deliver_to: pacs takes results = ['sr'], and this route makes ['sc']: nothing would go there"
    ]
    assert Settings.load(write(wants + ROUTE)).peer[0].results == ["sr"]


# --- where the file is ---------------------------------------------------------------------------


def test_the_given_file_comes_first_then_the_variable_then_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named, here = tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "overread.toml"
    for path in (given, named, here):
        path.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVERREAD_CONFIG", str(named))
    assert find_file(given) == given
    assert find_file(None) == named
    monkeypatch.delenv("OVERREAD_CONFIG")
    assert find_file(None) == here


def test_a_named_file_that_is_missing_is_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overread.toml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsFileError, match=r"gone\.toml: no such file"):
        find_file(tmp_path / "gone.toml")


def test_without_a_file_the_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/etc/overread/overread.toml").is_file():
        pytest.skip("this machine has settings in /etc/overread")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsFileError, match=r"looked for .*overread\.toml, /etc/overread/overread\.toml"):
        find_file(None)


@pytest.mark.parametrize("frames", ["middle", "every:1", "every:250"])
def test_frames_are_the_middle_or_every_nth(frames: str) -> None:
    assert Route(name="ct", bundle="b", mode="shadow", frames=frames).frames == frames


@pytest.mark.parametrize("frames", ["all", "every:0", "every:", "every:2.5", "every:-1", "Middle", ""])
def test_other_frames_are_refused_with_what_is_allowed(frames: str) -> None:
    with pytest.raises(ValidationError, match='"middle" or "every:n"'):
        Route(name="ct", bundle="b", mode="shadow", frames=frames)
