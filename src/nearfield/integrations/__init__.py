"""Components for LangChain, LlamaIndex and Haystack that run models in the same process; one file for each."""
