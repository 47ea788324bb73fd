import { z } from 'zod';

/** The action creates ids (UUIDs). They become names of folders and rows on the host, hence the narrow pattern. */
export const RunId = z.string().regex(/^[a-z0-9][a-z0-9-]{7,63}$/);
