// The excerpt under a search result is fetched, which browsers refuse for pages opened as files.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
