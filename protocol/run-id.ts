import { z } from 'zod';

/** Ids are made by the action (a UUID) and become folder and row names on the host, hence the narrow pattern. */
export const RunId = z.string().regex(/^[a-z0-9][a-z0-9-]{7,63}$/);
