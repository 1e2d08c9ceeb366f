"""What the configuration shows of itself."""

from store.configuration import load


def test_no_password_is_in_what_the_configuration_shows_of_itself() -> None:
    shown = repr(
        load(
            {
                "TOOLSWARM_STORE__BROKER_URL": "redis://gateway:s3cret-1@broker:6379/0",
                "TOOLSWARM_STORE__CACHE_URL": "unix://gateway:s3cret-2@/run/cache.sock?db=0",
            }
        )
    )

    assert "s3cret" not in shown
    assert "broker:6379" in shown
