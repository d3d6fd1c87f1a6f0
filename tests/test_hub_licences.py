import pytest

from mgen.hub.licences import closest_license, license_metadata, slug


@pytest.mark.parametrize(
    ("licence", "link", "expected"),
    [
        ("", "", {}),
        ("CC-BY-4.0", "", {"license": "cc-by-4.0"}),
        (
            "The Jam Session Licence 1.0",
            "https://example.org/jam",
            {
                "license": "other",
                "license_name": "the-jam-session-licence-1.0",
                "license_link": "https://example.org/jam",
            },
        ),
    ],
)
def test_a_licence_is_written_as_the_hub_knows_it(licence, link, expected):
    assert license_metadata(licence, link) == expected


@pytest.mark.parametrize(
    ("licence", "meant"),
    [("apache2", "apache-2.0"), ("CC BY 4.0", "cc-by-4.0"), ("mit", ""), ("", ""), ("The Jam Session Licence", "")],
)
def test_a_slip_is_noticed(licence, meant):
    assert closest_license(licence) == meant


def test_a_slug_is_never_empty():
    assert slug("Ökonom's jazz_2!") == "konom-s-jazz-2" and slug("???") == "unnamed"
