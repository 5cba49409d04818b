"""The router: `streamlit run streamlit_app.py`."""

from imgcls.ui import frame

if __name__ == "__main__":  # else a child process that multiprocessing spawned reads this file
    frame.navigation()
