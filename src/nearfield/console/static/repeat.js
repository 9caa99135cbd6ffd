// Work that is repeated while a page is shown.

/** Do something now and every few seconds, one after another, until the signal; not while the tab is hidden. */
export async function repeat(seconds, action, signal) {
  while (!signal.aborted) {
    if (!document.hidden) await action();
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}
