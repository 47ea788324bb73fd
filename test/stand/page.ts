import { setTimeout as sleep } from 'node:timers/promises';

const PATIENCE_MS = 20_000;

/** Returns the page that a stack's published port serves. A container that runs may not listen yet, so it waits for that. */
export async function readPage(port: number): Promise<string> {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return (await (await fetch(`http://127.0.0.1:${port}/`)).text()).trim();
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(100);
    }
  }
}
