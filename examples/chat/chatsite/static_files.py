from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFiles(CompressedManifestStaticFilesStorage):
    """Names carry a hash of the content, so browsers may keep the files for ever; in scripts' imports too."""

    support_js_module_import_aggregation = True
