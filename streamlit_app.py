"""The router: `streamlit run streamlit_app.py`."""

from imgcls.ui import frame

frame.navigation()
