export const text = (number) => `Note ${number}`;
