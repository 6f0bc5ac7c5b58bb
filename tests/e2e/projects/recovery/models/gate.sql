-- Fails until a person puts the file there.
select * from read_csv('switch/gate.csv')
