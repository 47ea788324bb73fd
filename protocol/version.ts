/** The version of this program. A check keeps it equal to the one in package.json. */
export const VERSION = '0.1.0';
