"""The only part of imgcls that imports streamlit: what the pages share."""
