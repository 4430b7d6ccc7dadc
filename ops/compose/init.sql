-- Runs once, when the database is created.
CREATE ROLE orders LOGIN PASSWORD 'first-password';
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, note text);
GRANT SELECT, INSERT ON orders TO orders;
