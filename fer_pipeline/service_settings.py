"""The settings of `fer-pipeline serve`: FER_SERVE_... in the environment, or settings.toml."""

from pydantic import BaseModel, Field, SecretStr

from fer_pipeline.service.limits import Limits

_USUAL = Limits()
_DAY = 86_400.0


class ServiceSettings(BaseModel):
    """What the HTTP service takes on, and from whom; part of the settings."""

    serve_token: SecretStr | None = Field(
        None, description="Token of the HTTP service, where others than this machine reach it."
    )
    serve_body_bytes: int = Field(
        _USUAL.body_bytes, ge=1, description="The service refuses larger bodies of requests."
    )
    serve_pixels: int = Field(
        _USUAL.pixels, ge=1, description="The service refuses pictures of more pixels."
    )
    serve_faces: int = Field(
        _USUAL.faces, ge=1, description="Faces that the service reads in a picture at most."
    )
    serve_seconds: float = Field(
        _USUAL.seconds,
        gt=0,
        le=_DAY,
        description="The service answers within these seconds, or refuses.",
    )
    serve_waiting: int = Field(
        _USUAL.waiting, ge=1, description="Requests that the service has under way at most."
    )
    serve_held_bytes: int = Field(
        _USUAL.held_bytes, ge=1, description="Bytes of bodies that it holds at once at most."
    )
    serve_cameras: int = Field(
        _USUAL.cameras, ge=0, description="Cameras that the service watches at once at most."
    )
    serve_videos: int = Field(
        _USUAL.videos, ge=0, description="Videos that the service reads at once at most."
    )
    serve_video_bytes: int = Field(
        _USUAL.video_bytes, ge=1, description="The service refuses larger videos."
    )
    serve_video_seconds: float = Field(
        _USUAL.video_seconds, gt=0, description="The service refuses longer videos."
    )

    @property
    def service_limits(self) -> Limits:
        """The limits of the HTTP service."""
        return Limits(
            body_bytes=self.serve_body_bytes,
            pixels=self.serve_pixels,
            faces=self.serve_faces,
            seconds=self.serve_seconds,
            waiting=self.serve_waiting,
            # One request's body always has room.
            held_bytes=max(self.serve_held_bytes, self.serve_body_bytes),
            cameras=self.serve_cameras,
            videos=self.serve_videos,
            video_bytes=self.serve_video_bytes,
            video_seconds=self.serve_video_seconds,
        )
