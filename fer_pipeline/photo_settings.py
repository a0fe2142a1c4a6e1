"""The settings that say how large a photo may be: part of the settings of a home."""

from pydantic import BaseModel, Field

from fer_pipeline.core.bounds import MAX_DECODED_BYTES, MAX_FILE_BYTES, MAX_PIXELS, Bounds


class PhotoSettings(BaseModel):
    """Which photos are refused before they are decoded."""

    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Photos with more pixels are refused.")
    max_decoded_bytes: int = Field(
        MAX_DECODED_BYTES, ge=1, description="Photos of more bytes, decoded, are refused."
    )
    max_file_bytes: int = Field(
        MAX_FILE_BYTES, ge=1, description="Photos of more bytes, as stored, are refused."
    )

    @property
    def bounds(self) -> Bounds:
        """These settings as one."""
        return Bounds(self.max_pixels, self.max_decoded_bytes, self.max_file_bytes)
