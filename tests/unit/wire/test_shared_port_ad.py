"""The address in a shared port's ad file."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.errors import SinfulError
from vine_sharedport.wire.shared_port_ad import parse_my_address

# Written by condor_shared_port 23.9.6 of a personal pool; the address of HTCondor's
# manual put in.
AD = """\
MyAddress = "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap&noUDP>"
RequestsBlocked = 0
RequestsFailed = 0
RequestsPendingCurrent = 0
RequestsPendingPeak = 0
RequestsSucceeded = 0
SharedPortCommandSinfuls = "<192.0.2.7:9618>"
"""
ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap&noUDP>"


def test_ad_files_address_is_parsed_whole() -> None:
    assert str(parse_my_address(AD)) == ADDRESS


@pytest.mark.parametrize(
    "text",
    [
        f'myaddress="{ADDRESS}"',
        f'Other = "x"\r\n  MyAddress  =  "{ADDRESS}"  \r\n',
        f'Name = "MyAddress = 1"\nMYADDRESS = "{ADDRESS}"\nMyAddresses = "<no>"',
    ],
    ids=["without blanks", "with CR and blanks", "among look-alikes"],
)
def test_spelling_of_the_attribute_does_not_matter(text: str) -> None:
    assert str(parse_my_address(text)) == ADDRESS


def test_escapes_of_a_classad_string_are_undone() -> None:
    assert parse_my_address(r'MyAddress = "<192.0.2.7:9618?alias=\"a\\>"').alias == '"a\\'


@pytest.mark.parametrize(
    "text",
    ["", AD[:40], 'MyAddress = ""', "MyAddress = undefined", 'MyAddress = "<192.0.2.7:0>"'],
    ids=["empty", "cut off", "no address", "undefined", "port 0"],
)
def test_ad_file_without_a_usable_address_is_refused(text: str) -> None:
    with pytest.raises(SinfulError):
        parse_my_address(text)


@given(st.text() | st.binary().map(lambda b: 'MyAddress = "<' + b.decode("latin-1") + '>"'))
def test_hostile_ad_files_raise_sinful_error_or_nothing(text: str) -> None:
    with suppress(SinfulError):
        parse_my_address(text)
