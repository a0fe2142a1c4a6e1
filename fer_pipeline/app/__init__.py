"""The labelling page: what Streamlit shows (`review`, `pages`) and what can be used without it."""
