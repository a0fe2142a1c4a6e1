"""The script that Streamlit runs anew for each thing a visitor does."""

from fer_pipeline.app.pages import show

if __name__ == "__main__":
    show()
